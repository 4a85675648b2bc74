package kit

// Key is b as the key of a store: a view of it. In tests it is a copy, which the SDK's Tester can keep.
func Key(b []byte) string { return View(b) }
