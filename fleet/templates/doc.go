// Package templates turns what a platform team says about GPU machines into nodes that have exactly that.
package templates
