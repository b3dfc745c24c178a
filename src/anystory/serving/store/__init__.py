"""What the server keeps: jobs and uploads in SQLite, their files beside it."""
