"""A synthetic site with ground truth: people, cameras, a renderer. Knows none of the packages it is used to test."""
