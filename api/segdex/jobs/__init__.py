"""The queue of long ingests, and who carries them out."""
