"""Bounces, complaints and other answers: read, judged and recorded."""
