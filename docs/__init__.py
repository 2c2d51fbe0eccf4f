"""The site of documentation: pages/ is written by hand, generate/ reads the rest off the code."""
