// How `import` finds a package that the function has not: as if the importing module were in a layer. Runs in the loader's thread.

let parent;

export function initialize(data) {
  parent = data.parent;
}

export async function resolve(specifier, context, next) {
  try {
    return await next(specifier, context);
  } catch (error) {
    // What begins like this is no package.
    if (error?.code !== 'ERR_MODULE_NOT_FOUND' || /^[./]|^[a-z]+:/.test(specifier)) throw error;
    try {
      return await next(specifier, { ...context, parentURL: parent });
    } catch {
      throw error;
    }
  }
}
