"""Other people's training loops: Hugging Face's Trainer and Lightning. Each is imported by name, and needs its own package."""
