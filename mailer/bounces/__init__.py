"""Read, judge and record bounces, complaints and automatic replies."""
