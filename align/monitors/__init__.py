"""What is seen while a run is under way.

Read `display` (the terminal), then `alarms` with their `thresholds`, `trackers`, and `watch`, who looks on from Python.
"""
