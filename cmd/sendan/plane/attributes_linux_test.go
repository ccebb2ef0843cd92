package plane

import (
	"fmt"
	"os"
	"strings"
)

func diesWithSupervisor() bool { return childAttributes().Pdeathsig != 0 }

// alive is false for a zombie as well: where nobody collects orphans they stay as such.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	// The state follows the command's name, which is in parentheses.
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}
