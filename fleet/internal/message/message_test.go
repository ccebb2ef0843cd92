package message

import "testing"

func TestAMessageNamesFiveAndCountsTheRest(t *testing.T) {
	for want, texts := range map[string][]string{"a": {"a"}, "a; b; c; d; e": {"a", "b", "c", "d", "e"}, "a; b; c; d; e and 2 more": {"a", "b", "c", "d", "e", "f", "g"}} {
		if got := Some(texts, "; "); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestATextIsCutByCharacters(t *testing.T) {
	for _, c := range []struct {
		text string
		most int
		want string
	}{{"船団", 2, "船団"}, {"船団です", 3, "船団…"}, {"", 1, ""}} {
		if got := Clip(c.text, c.most); got != c.want {
			t.Errorf("%q cut to %d is %q, want %q", c.text, c.most, got, c.want)
		}
	}
}
