"""What the tests of workers stand on."""

from tests.end_to_end.conftest import recorder

__all__ = ["recorder"]
