package strictjson

// longestName is the length of the longest name that Suggest considers.
const longestName = 100

// Suggest returns the one of names that was most likely meant by name, or "". It allocates
// nothing.
func Suggest(name string, names []string) string {
	if len(name) > longestName {
		return ""
	}
	var a, b [longestName]byte
	plainName := plain(&a, name)
	best, least := "", longestName
	for _, candidate := range names {
		if len(candidate) > longestName {
			continue
		}
		plainCandidate := plain(&b, candidate)
		most := min(2, (len(plainCandidate)+1)/3, least-1)
		if longer := len(plainName) - len(plainCandidate); longer > most || -longer > most {
			continue
		}
		if n := distance(plainName, plainCandidate); n <= most {
			best, least = candidate, n
		}
	}
	return best
}

// plain writes a name into b, in lower case and without the characters that separate words.
func plain(b *[longestName]byte, name string) []byte {
	n := 0
	for i := range len(name) {
		switch c := name[i]; {
		case c == '_' || c == '-' || c == '.':
			continue
		case c >= 'A' && c <= 'Z':
			b[n] = c + 'a' - 'A'
		default:
			b[n] = c
		}
		n++
	}
	return b[:n]
}

// distance returns the Levenshtein distance of a and b. Neither is longer than longestName.
func distance(a, b []byte) int {
	var row [longestName + 1]int
	for j := range len(b) + 1 {
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
