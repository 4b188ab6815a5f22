"""Writers of other trackers' layouts for tests, implemented independently of the readers."""
