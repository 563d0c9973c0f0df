"""What joins taskcore to other frameworks; imported by nobody who does not use them."""
