"""Controllers for the tests of how an application finds them."""
