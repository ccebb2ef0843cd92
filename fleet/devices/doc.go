// Package devices is the gate that a node with accelerators passes before it takes pods. The node registers with a taint;
// it is taken off when the node advertises the devices that its NodeTemplate promises, runs the promised driver, and has
// passed its burn-in. Until then, and whenever devices go missing later, the Machine's condition DevicesReady says what is
// promised and what is there. ClusterClasses refer to that condition as a readiness gate.
//
// The promise is in annotations of the Machine, which Cluster API copies from the ClusterClass. [Plan] compares it with the
// Node. A taint once taken off is never put back: what becomes of a node that breaks is for repair to decide.
//
// docs/devices.md is the runbook.
package devices
