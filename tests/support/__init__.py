"""How the tests run containers and ask them; what must hold stands in the test modules."""
