// Package webhooks refuses objects that could never work, at the moment somebody writes them. Each
// refusal names the field, the value and what to do instead. Rules that one field alone decides
// are in the CRDs; here are those that need several fields, the old object, or other objects.
//
// There are no defaulting webhooks: defaults are in the CRDs, so that what a template says and what
// an object made from it says stay the same.
package webhooks
