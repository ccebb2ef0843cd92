package cloudinit

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"strings"
	"testing"
)

func machine() Instance {
	return Instance{
		ID: "5f2c", Name: "Worker-0", HostName: "worker-0", Zone: "az1", Region: "RegionOne", Address: "10.6.0.7",
		Metadata: map[string]string{"gpu-model": "a100"},
	}
}

func compressed(text string) string {
	var out bytes.Buffer
	writer := gzip.NewWriter(&out)
	_, _ = writer.Write([]byte(text)) // a buffer takes everything
	_ = writer.Close()
	return out.String()
}

func encoded(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

func TestFilesAreDecodedAsTheirEncodingSays(t *testing.T) {
	for encoding, content := range map[string]string{
		"":            "hello",
		"text/plain":  "hello",
		"b64":         encoded("hello"),
		"base64":      encoded("hello"),
		"gz+b64":      encoded(compressed("hello")),
		"gzip+base64": encoded(compressed("hello")),
	} {
		config, err := Parse([]byte("#cloud-config\nwrite_files:\n- path: /f\n  encoding: \""+encoding+"\"\n  content: "+content+"\n"), machine())
		if err != nil || config.Contents()["/f"] != "hello" {
			t.Errorf("encoding %q: %q, %v", encoding, config.Contents()["/f"], err)
		}
	}
}

func TestUserDataInEachWrappingIsRead(t *testing.T) {
	plain := "#cloud-config\nruncmd:\n- echo one\n- [echo, two]\n"
	archive := "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"XX\"\n\n--XX\nContent-Type: text/x-shellscript\n\n#!/bin/sh\n" +
		"--XX\nContent-Type: text/cloud-config\nContent-Transfer-Encoding: base64\n\n" + encoded(plain) + "\n--XX--\n"
	for name, data := range map[string]string{"plain": plain, "gzip": compressed(plain), "MIME archive": archive, "gzip of a MIME archive": compressed(archive)} {
		config, err := Parse([]byte(data), machine())
		if err != nil || strings.Join(config.Commands(), ";") != "echo one;echo two" {
			t.Errorf("%s: %v, %v", name, config.Commands(), err)
		}
	}
	for name, data := range map[string]string{"nothing": "", "script": "#!/bin/sh\necho one\n"} {
		if config, err := Parse([]byte(data), machine()); err != nil || len(config.Commands()) != 0 {
			t.Errorf("%s: %v, %v; want an empty configuration", name, config, err)
		}
	}
}

func TestAFileIsAppendedTo(t *testing.T) {
	config, err := Parse([]byte("#cloud-config\nwrite_files:\n- path: /f\n  content: a\n- path: /f\n  content: b\n  append: true\n"), machine())
	if err != nil || config.Contents()["/f"] != "ab" {
		t.Errorf("%q, %v", config.Contents()["/f"], err)
	}
}

func TestExpressionsOfATemplateBecomeInstanceData(t *testing.T) {
	for expression, want := range map[string]string{
		"{{ local_hostname }}":                   "worker-0",
		"{{ v1.local_hostname }}":                "worker-0",
		"{{ds.meta_data.name|lower}}":            "worker-0",
		"{{ ds.meta_data.uuid }}":                "5f2c",
		"{{ ds.meta_data.instance_id }}":         "5f2c",
		"{{ ds['meta_data']['uuid'] }}":          "5f2c",
		"{{ ds.meta_data.meta.gpu_model }}":      "a100",
		"{{ v1.availability_zone }}":             "az1",
		"{{ v1.region }}/{{ v1.instance_id }}":   "RegionOne/5f2c",
		"{# a comment #}{{ ds.meta_data.name }}": "Worker-0",
		"{{ ds.meta_data.nonsense }}":            "CI_MISSING_JINJA_VAR/nonsense",
	} {
		config, err := Parse([]byte("## template: jinja\n#cloud-config\nruncmd:\n- \""+expression+"\"\n"), machine())
		if err != nil || len(config.Commands()) != 1 || config.Commands()[0] != want {
			t.Errorf("%s: %q, %v; want %q", expression, config.Commands(), err, want)
		}
	}
}

func TestWithoutTheTemplateHeaderNothingIsReplaced(t *testing.T) {
	config, err := Parse([]byte("#cloud-config\nruncmd:\n- 'echo {{ v1.region }}'\n"), machine())
	if err != nil || config.Commands()[0] != "echo {{ v1.region }}" {
		t.Errorf("%v, %v", config.Commands(), err)
	}
}

func TestWhatCannotBeReadIsNamed(t *testing.T) {
	for data, want := range map[string]string{
		"#cloud-config\nwrite_files: {":                                              "cloud-config",
		"#cloud-config\nwrite_files:\n- path: /f\n  encoding: b64\n  content: '%'\n": "/f: decode base64",
		"## template: jinja\n#cloud-config\nruncmd: ['{{ 1 + 1 }}']\n":               "is not a variable",
		"## template: jinja\n#cloud-config\nruncmd: ['{{ v1.region | md5 }}']\n":     `filter "md5"`,
		"## template: jinja\n#cloud-config\n{% if true %}runcmd: []{% endif %}\n":    "statements",
		"\x1f\x8bnot gzip": "gunzip",
	} {
		if _, err := Parse([]byte(data), machine()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want an error about %q", data, err, want)
		}
	}
}
