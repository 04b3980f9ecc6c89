"""What is published: model folders, their cards, and the push to the Hub."""
