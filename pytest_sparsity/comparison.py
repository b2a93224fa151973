"""How far outputs are from those that they are compared with, value by value."""
