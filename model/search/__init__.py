"""The parts of a search: what is asked, which items may answer, and which of them are hits."""
