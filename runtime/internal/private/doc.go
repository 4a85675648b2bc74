// Package private says whether a folder is this user's alone: what is kept there is run, and must not come from others.
// Of no library: the system is asked.
package private
