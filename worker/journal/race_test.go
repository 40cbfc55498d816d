//go:build race

package journal

// underRace says that the race detector watches: the model has one goroutine for each world, so that it finds nothing there and makes
// every state ten times as dear.
const underRace = true
