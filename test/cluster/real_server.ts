// SPDX-License-Identifier: Apache-2.0
// Imported before tests of the operator: sends them to the real API server instead of the fake one.
process.env['OUTRIGGER_TEST_KUBECONFIG'] = process.env['KUBECONFIG'] ?? '';
