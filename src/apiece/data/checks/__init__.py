"""What `apiece check` looks for: one concept a module, pure functions of a picture and its objects."""
