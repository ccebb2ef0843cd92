// Package cloudinit reads user data as far as cloud-init's answer decides what a machine becomes: the files it writes
// and the commands it runs.
package cloudinit

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
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
	// Files are the contents written, by path.
	Files map[string]string
	// Commands are those of bootcmd and then runcmd, one shell line each.
	Commands []string
}

// Parse reads user data for the machine that instance describes. Empty user data, and scripts, configure nothing here.
func Parse(userData []byte, instance Instance) (*Config, error) {
	config := &Config{Files: map[string]string{}}
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

type file struct {
	Path     string `json:"path"`
	Content  string `json:"content"`
	Encoding string `json:"encoding"`
	Append   bool   `json:"append"`
}

// command is a line for the shell, or a list of words.
type command string

func (c *command) UnmarshalJSON(data []byte) error {
	var line string
	if err := yaml.Unmarshal(data, &line); err == nil {
		*c = command(line)
		return nil
	}
	var words []string
	if err := yaml.Unmarshal(data, &words); err != nil {
		return fmt.Errorf("a command is a string or a list of strings: %w", err)
	}
	*c = command(strings.Join(words, " "))
	return nil
}

// add takes in one document, if it is a cloud-config.
func (c *Config) add(data []byte, instance Instance) error {
	text := strings.TrimLeft(string(data), "\ufeff\r\n\t ")
	if header, rest, _ := strings.Cut(text, "\n"); strings.TrimSpace(header) == jinjaHeader {
		rendered, err := instance.render(rest)
		if err != nil {
			return fmt.Errorf("user data: jinja template: %w", err)
		}
		text = strings.TrimLeft(rendered, "\r\n\t ")
	}
	if !strings.HasPrefix(text, cloudConfigHeader) {
		return nil
	}
	var doc document
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		return fmt.Errorf("user data: cloud-config: %w", err)
	}
	for _, f := range doc.WriteFiles {
		content, err := f.decode()
		if err != nil {
			return fmt.Errorf("user data: write_files: %s: %w", f.Path, err)
		}
		if f.Append {
			content = c.Files[f.Path] + content
		}
		c.Files[f.Path] = content
	}
	for _, line := range append(doc.BootCmd, doc.RunCmd...) {
		c.Commands = append(c.Commands, string(line))
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
