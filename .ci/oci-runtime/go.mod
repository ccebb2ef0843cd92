module github.com/sendan-io/sendan/ci/oci-runtime

go 1.26.0
