package main

import "fmt"

// context is how many equal lines are shown around a change.
const contextLines = 3

// diffLines returns the changes from one text to another as a unified diff without its header.
func diffLines(before, after []string) (out []string) {
	kept := commonLines(before, after)
	type edit struct {
		mark          byte
		text          string
		before, after int // the numbers of its line, from 1
	}
	var edits []edit
	i, j := 0, 0
	for _, k := range append(kept, [2]int{len(before), len(after)}) {
		for ; i < k[0]; i++ {
			edits = append(edits, edit{'-', before[i], i + 1, j + 1})
		}
		for ; j < k[1]; j++ {
			edits = append(edits, edit{'+', after[j], i + 1, j + 1})
		}
		if i < len(before) && j < len(after) {
			edits = append(edits, edit{' ', before[i], i + 1, j + 1})
			i++
			j++
		}
	}
	shown := make([]bool, len(edits))
	for at, e := range edits {
		if e.mark != ' ' {
			for near := max(0, at-contextLines); near <= min(len(edits)-1, at+contextLines); near++ {
				shown[near] = true
			}
		}
	}
	for at := 0; at < len(edits); at++ {
		if !shown[at] {
			continue
		}
		end, minus, plus := at, 0, 0
		for ; end < len(edits) && shown[end]; end++ {
			if edits[end].mark != '+' {
				minus++
			}
			if edits[end].mark != '-' {
				plus++
			}
		}
		out = append(out, fmt.Sprintf("@@ -%d,%d +%d,%d @@", edits[at].before, minus, edits[at].after, plus))
		for ; at < end; at++ {
			out = append(out, string(edits[at].mark)+edits[at].text)
		}
	}
	return out
}

// commonLines returns the places, in both texts, of the lines that stay.
func commonLines(before, after []string) (kept [][2]int) {
	start := 0
	for start < len(before) && start < len(after) && before[start] == after[start] {
		kept = append(kept, [2]int{start, start})
		start++
	}
	endBefore, endAfter := len(before), len(after)
	for endBefore > start && endAfter > start && before[endBefore-1] == after[endAfter-1] {
		endBefore--
		endAfter--
	}
	a, b := before[start:endBefore], after[start:endAfter]
	// longest[i][j] is how many lines a[i:] and b[j:] have in common, in order.
	longest := make([][]int32, len(a)+1)
	for i := range longest {
		longest[i] = make([]int32, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				longest[i][j] = longest[i+1][j+1] + 1
			} else {
				longest[i][j] = max(longest[i+1][j], longest[i][j+1])
			}
		}
	}
	for i, j := 0, 0; i < len(a) && j < len(b); {
		switch {
		case a[i] == b[j]:
			kept = append(kept, [2]int{start + i, start + j})
			i++
			j++
		case longest[i+1][j] >= longest[i][j+1]:
			i++
		default:
			j++
		}
	}
	for k := range len(before) - endBefore {
		kept = append(kept, [2]int{endBefore + k, endAfter + k})
	}
	return kept
}
