// Package docs keeps the documentation true: what it names exists, what exists is named where that is
// promised, and its examples are accepted by an API server.
package docs
