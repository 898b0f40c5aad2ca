"Checks and helpers for the people who write the book."
