// SPDX-License-Identifier: Apache-2.0
// What a role allows, as the API server would say it.
import type { Permission } from '../kit/permissions';

/** Whether a permission covers a request as the fake server notes it: "METHOD path". */
export function allows(permission: Permission, request: string): boolean {
  const [method = '', path = ''] = request.split(' ');
  const match =
    /^\/(?:api\/v1|apis\/([^/]+)\/[^/]+)(?:\/namespaces\/[^/]+)?\/([^/]+)(?:\/([^/]+))?(?:\/(status))?$/.exec(
      path,
    );
  const [, group = '', plural = '', name, subresource] = match ?? [];
  const verb = {
    GET: name === undefined ? 'list' : 'get',
    POST: 'create',
    PUT: 'update',
    PATCH: 'patch',
    DELETE: 'delete',
  }[method];
  return (
    permission.group === group &&
    permission.resource === (subresource === undefined ? plural : `${plural}/${subresource}`) &&
    permission.verbs.some((each) => each === verb) &&
    (permission.names === undefined || permission.names.includes(name ?? ''))
  );
}
