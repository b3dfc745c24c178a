"""What stands in the tabs: each file answers what its part of the page asks for."""
