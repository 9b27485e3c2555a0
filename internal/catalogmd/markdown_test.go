package catalogmd_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd/internal/catalogmd"
	"github.com/pgcmd/pgcmd/internal/jsonschema"
)

// Brackets are not part of a fragment, so that the headings of a command and its batch have one: the second of equal ones
// gets a number, as GitHub counts.
func TestEachLinkLeadsToItsOwnHeading(t *testing.T) {
	t.Parallel()
	var page strings.Builder
	var entries []catalogmd.Entry
	for _, name := range []string{"commands", "users.add", "users.add-1", "users.add[]", "users.find"} {
		entries = append(entries, catalogmd.Entry{Name: name, Input: jsonschema.New("object"), Output: jsonschema.New("integer")})
	}
	require.NoError(t, catalogmd.Write(&page, entries))
	for link, name := range map[string]string{
		"commands-1": "commands", "usersadd": "users.add", "usersadd-1": "users.add-1", "usersadd-2": `users.add\[\]`, "usersfind": "users.find",
	} {
		assert.Contains(t, page.String(), fmt.Sprintf("| [%s](#%s) |", name, link))
	}
}

func TestARequiredNumberIsNotZero(t *testing.T) {
	t.Parallel()
	var page strings.Builder
	id := jsonschema.New("integer").Set("not", jsonschema.New("").Set("const", 0))
	input := jsonschema.New("object").Set("properties", jsonschema.Properties{{Name: "id", Schema: id}}).Set("required", []string{"id"})
	require.NoError(t, catalogmd.Write(&page, []catalogmd.Entry{{Name: "users.find", Input: input, Output: jsonschema.New("integer")}}))
	assert.Contains(t, page.String(), "| id | integer | required, not 0 |")
}
