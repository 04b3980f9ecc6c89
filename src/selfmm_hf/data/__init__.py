"""Reading published feature files into samples."""
