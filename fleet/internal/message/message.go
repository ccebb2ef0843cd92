// Package message keeps what people read short.
package message

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// most is how many things a message names.
const most = 5

// Some joins texts, and says how many more there are when there are many.
func Some(texts []string, separator string) string {
	if len(texts) <= most {
		return strings.Join(texts, separator)
	}
	return fmt.Sprintf("%s and %d more", strings.Join(texts[:most], separator), len(texts)-most)
}

// Clip cuts a text to a number of characters, which is what the API counts.
func Clip(text string, characters int) string {
	if utf8.RuneCountInString(text) <= characters {
		return text
	}
	return string([]rune(text)[:characters-1]) + "…"
}
