"""What stands before every web page and service of the package."""
