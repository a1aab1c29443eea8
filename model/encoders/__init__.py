"""Image and text towers: vse (regions and words, external attention) and dual (CLIP, SigLIP)."""
