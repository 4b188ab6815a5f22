"""Writers of other trackers' layouts, for tests: written from the layouts' facts alone, beside the readers."""
