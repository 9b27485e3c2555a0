package pgcmd

import (
	"math"
	"strings"
)

// nearest is the name that was most likely meant, or "".
func nearest(name string, names []string) string {
	plain := func(s string) string {
		return strings.ToLower(strings.NewReplacer("_", "", "-", "", ".", "").Replace(s))
	}
	best, least := "", math.MaxInt
	if len(name) > 100 {
		return ""
	}
	for _, candidate := range names {
		a, b := plain(name), plain(candidate)
		if n := distance(a, b); n <= min(2, (len(b)+1)/3) && n < least {
			best, least = candidate, n
		}
	}
	return best
}

// distance is how many letters have to be changed, put in or taken out to make b of
// a; two that are swapped count as two.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
