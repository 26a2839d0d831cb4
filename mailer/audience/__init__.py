"""Who gets the newsletter, who agreed to what, and who must never get email."""
