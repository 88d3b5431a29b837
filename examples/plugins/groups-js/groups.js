// From the claims of a token to a user.

/// The user, or undefined: this token has no groups, and is left to the next policy. A token whose groups make no sense
/// is refused (thrown).
export function identify(claims, settings) {
  const groups = find(claims, settings.groupsClaim);
  if (groups === undefined) {
    return undefined;
  }
  const id = find(claims, settings.idClaim);
  if (id?.tag !== 'text' || id.val === '') {
    throw malformed(settings.idClaim, 'a text that is not empty');
  }
  const memberOf = list(groups);
  if (memberOf === undefined) {
    throw malformed(settings.groupsClaim, 'a list of names');
  }
  const collections = new Set(memberOf.flatMap((group) => settings.collections.get(group) ?? []));
  // `isAdmin` and `collections` of the token don't count: here, the groups alone say who somebody is.
  return {
    id: id.val,
    admin: memberOf.some((group) => settings.admins.has(group)),
    collections: [...collections].sort(),
  };
}

function find(claims, name) {
  return claims.find((claim) => claim.name === name)?.value;
}

/// Some providers send a single group as a text instead of a list with one.
function list(groups) {
  if (groups.tag === 'texts') {
    return groups.val;
  }
  return groups.tag === 'text' ? [groups.val] : undefined;
}

function malformed(claim, expected) {
  return { rule: 'claims-well-formed', message: `the token's claim \`${claim}\` is not ${expected}` };
}
