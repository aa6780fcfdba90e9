// SPDX-License-Identifier: Apache-2.0
import { ApiError } from '../kit/api_error';
import { unregister } from './unregister';

/** An API server with these objects; some come back by themselves after they were deleted. */
function server(comeBack: number): { readonly call: jest.Mock; readonly left: () => boolean } {
  let there = true;
  let returns = comeBack;
  const call = jest.fn(() => {
    if (!there) {
      return Promise.reject(new ApiError(404, 'NotFound', 'not found'));
    }
    there = returns-- > 0;
    return Promise.resolve({});
  });
  return { call, left: () => there };
}

const kNoPause = { pause: () => Promise.resolve() };

describe('taking the registration away', () => {
  it('lasts until an operator that is ending has put it back for the last time', async () => {
    const api = server(5);
    await unregister(api as never, kNoPause);
    expect(api.left()).toBe(false);
  });

  it('gives up with the reason when an operator still runs', async () => {
    await expect(unregister(server(Infinity) as never, kNoPause)).rejects.toThrow('an operator still runs');
  });
});
