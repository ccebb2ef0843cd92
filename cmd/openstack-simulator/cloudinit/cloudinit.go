// Package cloudinit reads user data as far as cloud-init's answer decides what a machine becomes: the files it writes
// and the commands it runs. [Config.Script] does it on a real one.
package cloudinit

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"net/mail"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"
)

const (
	cloudConfigHeader = "#cloud-config"
	jinjaHeader       = "## template: jinja"
	// sizeLimitBytes bounds what compressed user data may unpack to.
	sizeLimitBytes = 8 << 20
)

// Config is what a machine is told to do on its first boot.
type Config struct {
	// Files are written in this order, after BootCommands have run and before RunCommands.
	Files []File
	// BootCommands and RunCommands are one shell line each.
	BootCommands, RunCommands []string
	// Scripts are user data that begin with #!, run last.
	Scripts []string
	// Unhandled says, for user data that cloud-init can make nothing of, what it seems to be.
	Unhandled string
	// Ignored are the modules that the user data configure and that are not carried out here.
	Ignored []string
}

// File is what write_files has for one path.
type File struct {
	Path    string
	Content string
	// Owner is user:group, and Permissions an octal mode; cloud-init's defaults when empty.
	Owner, Permissions string
	Append             bool
}

// Commands are those of bootcmd and then runcmd.
func (c *Config) Commands() []string { return slices.Concat(c.BootCommands, c.RunCommands) }

// Contents are what the paths hold in the end.
func (c *Config) Contents() map[string]string {
	contents := map[string]string{}
	for _, f := range c.Files {
		if f.Append {
			contents[f.Path] += f.Content
		} else {
			contents[f.Path] = f.Content
		}
	}
	return contents
}

// Parse reads user data for the machine that instance describes. Empty user data configure nothing.
func Parse(userData []byte, instance Instance) (*Config, error) {
	config := &Config{}
	data, err := decompress(userData)
	if err != nil {
		return nil, fmt.Errorf("user data: %w", err)
	}
	if isMultipart(data) {
		err = config.addParts(data, instance)
	} else {
		err = config.add(data, instance)
	}
	return config, err
}

func decompress(data []byte) ([]byte, error) {
	if !bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
		return data, nil
	}
	reader, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("gunzip: %w", err)
	}
	plain, err := io.ReadAll(io.LimitReader(reader, sizeLimitBytes+1))
	if err != nil {
		return nil, fmt.Errorf("gunzip: %w", err)
	}
	if len(plain) > sizeLimitBytes {
		return nil, fmt.Errorf("gunzip: more than %d bytes", sizeLimitBytes)
	}
	return plain, nil
}

func isMultipart(data []byte) bool {
	start, _, _ := bytes.Cut(data, []byte("\n\n"))
	return bytes.Contains(bytes.ToLower(start), []byte("content-type: multipart/"))
}

func (c *Config) addParts(data []byte, instance Instance) error {
	message, err := mail.ReadMessage(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("user data: read MIME archive: %w", err)
	}
	_, parameters, err := mime.ParseMediaType(message.Header.Get("Content-Type"))
	if err != nil {
		return fmt.Errorf("user data: read MIME archive: %w", err)
	}
	parts := multipart.NewReader(message.Body, parameters["boundary"])
	for {
		part, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("user data: read MIME archive: %w", err)
		}
		content, err := decodePart(part)
		if err != nil {
			return fmt.Errorf("user data: read MIME archive: %w", err)
		}
		if err := c.add(content, instance); err != nil {
			return err
		}
	}
}

func decodePart(part *multipart.Part) ([]byte, error) {
	var reader io.Reader = part
	if strings.EqualFold(part.Header.Get("Content-Transfer-Encoding"), "base64") {
		reader = base64.NewDecoder(base64.StdEncoding, part)
	}
	content, err := io.ReadAll(io.LimitReader(reader, sizeLimitBytes))
	if err != nil {
		return nil, err
	}
	return decompress(content)
}

type document struct {
	WriteFiles []file    `json:"write_files"`
	BootCmd    []command `json:"bootcmd"`
	RunCmd     []command `json:"runcmd"`
}

// ignored are the modules of a cloud-config beside those of a document.
func ignored(text string) ([]string, error) {
	var modules map[string]any
	if err := yaml.Unmarshal([]byte(text), &modules); err != nil {
		return nil, err
	}
	for _, known := range []string{"write_files", "bootcmd", "runcmd"} {
		delete(modules, known)
	}
	return slices.Sorted(maps.Keys(modules)), nil
}

type file struct {
	Path        string `json:"path"`
	Content     string `json:"content"`
	Encoding    string `json:"encoding"`
	Owner       string `json:"owner"`
	Permissions mode   `json:"permissions"`
	Append      bool   `json:"append"`
}

// mode is an octal number, with quotes or without.
type mode string

func (m *mode) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err == nil {
		*m = mode(text)
		return nil
	}
	var number int64
	if err := json.Unmarshal(data, &number); err != nil {
		return fmt.Errorf("permissions are an octal number in quotes, such as '0640': %w", err)
	}
	// YAML has read an unquoted 0640 as octal.
	*m = mode("0" + strconv.FormatInt(number, 8))
	return nil
}

// command is a line for the shell, or a list of words.
type command string

func (c *command) UnmarshalJSON(data []byte) error {
	var line string
	if err := json.Unmarshal(data, &line); err == nil {
		*c = command(line)
		return nil
	}
	var words []string
	if err := json.Unmarshal(data, &words); err != nil {
		return fmt.Errorf("a command is a string or a list of strings: %w", err)
	}
	for i, word := range words {
		words[i] = quote(word)
	}
	*c = command(strings.Join(words, " "))
	return nil
}

// plainWord needs no quotes in a shell.
var plainWord = regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./-]+$`)

func quote(word string) string {
	if plainWord.MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// add takes in one document.
func (c *Config) add(data []byte, instance Instance) error {
	text := strings.TrimLeft(string(data), "\ufeff\r\n\t ")
	if header, rest, _ := strings.Cut(text, "\n"); strings.TrimSpace(header) == jinjaHeader {
		rendered, err := instance.render(rest)
		if err != nil {
			return fmt.Errorf("user data: jinja template: %w", err)
		}
		text = strings.TrimLeft(rendered, "\r\n\t ")
	}
	switch {
	case text == "":
		return nil
	case strings.HasPrefix(text, "#!"):
		c.Scripts = append(c.Scripts, text)
		return nil
	case !strings.HasPrefix(text, cloudConfigHeader):
		c.Unhandled = kindOf(text)
		return nil
	}
	return c.addCloudConfig(text)
}

// kindOf guesses what user data are that cloud-init does not understand.
func kindOf(text string) string {
	var document struct {
		Ignition *struct {
			Version string `json:"version"`
		} `json:"ignition"`
	}
	if json.Unmarshal([]byte(text), &document) == nil && document.Ignition != nil {
		return "an Ignition config, which an image with Ignition reads and not one with cloud-init"
	}
	line, _, _ := strings.Cut(text, "\n")
	return fmt.Sprintf("text that begins with %q and not with %s", line[:min(len(line), 60)], cloudConfigHeader)
}

func (c *Config) addCloudConfig(text string) error {
	var doc document
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		return fmt.Errorf("user data: cloud-config: %w", err)
	}
	modules, err := ignored(text)
	if err != nil {
		return fmt.Errorf("user data: cloud-config: %w", err)
	}
	c.Ignored = append(c.Ignored, modules...)
	for _, f := range doc.WriteFiles {
		content, err := f.decode()
		if err != nil {
			return fmt.Errorf("user data: write_files: %s: %w", f.Path, err)
		}
		c.Files = append(c.Files, File{Path: f.Path, Content: content, Owner: f.Owner, Permissions: string(f.Permissions), Append: f.Append})
	}
	for _, line := range doc.BootCmd {
		c.BootCommands = append(c.BootCommands, string(line))
	}
	for _, line := range doc.RunCmd {
		c.RunCommands = append(c.RunCommands, string(line))
	}
	return nil
}

// decode undoes the encoding of a file's content. The names are cloud-init's; an unknown one means plain text, as there.
func (f file) decode() (string, error) {
	encoding := strings.ToLower(strings.TrimSpace(f.Encoding))
	content := []byte(f.Content)
	var err error
	switch encoding {
	case "b64", "base64", "gz+base64", "gzip+base64", "gz+b64", "gzip+b64":
		compact := strings.Join(strings.Fields(f.Content), "")
		if content, err = base64.StdEncoding.DecodeString(compact); err != nil {
			return "", fmt.Errorf("decode base64: %w", err)
		}
	}
	if strings.HasPrefix(encoding, "gz") {
		if content, err = decompress(content); err != nil {
			return "", err
		}
	}
	return string(content), nil
}
