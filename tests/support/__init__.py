"""How the tests run containers and send them requests; the test modules contain the assertions."""
