"""Follows a folder or a camera, and judges each image as it comes."""
