"""A video API and a page over it: jobs on disk, one worker that draws them, HTTP in front."""
