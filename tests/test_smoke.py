"""The package says its version."""

import mailer


def test_version_is_semantic() -> None:
    assert mailer.__version__.count(".") == 2
