"""What is asked under which address; each file has the routes about one kind of thing."""
