"""What a call is checked for, besides its plain arguments."""
