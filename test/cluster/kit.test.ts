// SPDX-License-Identifier: Apache-2.0
// The operator's own tests, with the real API server behind the storm: what holds against the fake one must hold against it.
import './real_server';
import { installCrds } from './crds';

beforeAll(installCrds, 90_000);

// Each of them defines its tests when it is loaded.
import '../../operator/src/kit/informer_chaos.test';
import '../../operator/src/kit/leader_election.test';
import '../../operator/src/kit/events.test';
import '../../operator/src/kit/finalizers.test';
import '../../operator/src/controllers/controllers_chaos.test';
import '../../operator/src/process/operator.test';
