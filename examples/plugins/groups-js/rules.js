// Who may do what. Simple, and safe also where this is the only policy:
//
// - administrators may do everything;
// - members of a collection see what is in it, and open shells in its labs;
// - they create topologies and labs where the collection lets them;
// - only who created a topology or lab changes, deletes or commands it;
// - collections are made and changed by administrators alone;
// - nothing that reaches into the machine that runs the labs, but published ports.

/// Says why `user` may not do `action`; undefined: they may.
export function authorize(user, action) {
  if (user.admin) {
    return undefined;
  }
  // An action that a later version of the contract may bring is nobody's until somebody has thought about it.
  return Object.hasOwn(RULES, action.tag)
    ? RULES[action.tag](user, action.val)
    : denied('unknown-action', 'This is not allowed here');
}

const RULES = {
  connect,
  command,
  'view-lab': (user, lab) => member(user, lab.collection),
  'create-lab': createLab,
  'update-lab': (user, { before, after }) =>
    own(user, before, 'lab') ??
    (after.topologyId === before.topologyId ? confined(after.nodes) : createLab(user, after)),
  'delete-lab': (user, lab) => own(user, lab, 'lab'),
  'view-topology': (user, topology) => member(user, topology.collection),
  'create-topology': createTopology,
  // Labs may be made of it already, and their schedule deploys them without asking again.
  'update-topology': (user, { before, after }) =>
    own(user, before, 'topology') ??
    (after.collection.id === before.collection.id ? undefined : createTopology(user, after)) ??
    confined(after.nodes),
  'delete-topology': (user, topology) => own(user, topology, 'topology'),
  'view-collection': member,
  'create-collection': adminsOnly,
  'update-collection': adminsOnly,
  'delete-collection': adminsOnly,
};

function connect(user, namespace) {
  switch (namespace.tag) {
    // What is sent there is chosen for each person by what they may see.
    case 'lab-commands':
    case 'lab-updates':
    case 'status-messages':
    case 'shell-commands':
      return undefined;
    case 'lab-log':
      return member(user, namespace.val.collection);
    case 'node-log':
      return member(user, namespace.val.lab.collection);
    case 'shell':
      return member(user, namespace.val.lab.collection) ?? ownShell(user, namespace.val.shell);
    default:
      return denied('unknown-namespace', 'This is not allowed here');
  }
}

function command(user, { kind, lab, shell }) {
  switch (kind) {
    case 'deploy':
      return own(user, lab, 'lab') ?? confined(lab.nodes);
    case 'destroy':
    case 'stop-node':
    case 'start-node':
    case 'restart-node':
      return own(user, lab, 'lab');
    case 'list-shells':
    case 'open-shell':
      return member(user, lab.collection);
    // Also for who left the collection: nobody is to be left with a terminal that they can't close.
    case 'close-shell':
      return ownShell(user, shell);
    default:
      return denied('unknown-command', 'This is not allowed here');
  }
}

function member(user, collection) {
  // The collection's name is not for those outside of it.
  return user.collections.includes(collection.name)
    ? undefined
    : denied('members-only', 'You are not a member of its collection');
}

function own(user, thing, what) {
  return (
    member(user, thing.collection) ??
    (thing.creator === user.id
      ? undefined
      : denied('creator-only', `Only its creator or an administrator may do this with the ${what} ${thing.name}`))
  );
}

function ownShell(user, shell) {
  return shell?.owner === user.id ? undefined : denied('own-shells-only', 'This is not a shell that you opened');
}

function createLab(user, lab) {
  return (
    member(user, lab.collection) ??
    (lab.collection.publicDeploy
      ? confined(lab.nodes)
      : denied('public-deploy', `Members may not create labs in the collection ${lab.collection.name}`))
  );
}

function createTopology(user, topology) {
  return (
    member(user, topology.collection) ??
    (topology.collection.publicWrite
      ? undefined
      : denied('public-write', `Members may not create topologies in the collection ${topology.collection.name}`))
  );
}

function confined(nodes) {
  const reaching = nodes.find((node) => node.demands.some((demand) => demand.tag !== 'port'));
  return reaching === undefined
    ? undefined
    : denied('host-access', `Node ${reaching.name} reaches out of its container, which only administrators may run`);
}

function adminsOnly() {
  return denied('admins-only', 'Only administrators create, change or delete collections');
}

function denied(rule, message) {
  return { rule, message };
}
