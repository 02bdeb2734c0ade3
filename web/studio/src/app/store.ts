// The state that the pages share: one store for each client, so that nothing of one user is shown to the next.

import { configureStore, createSlice, type PayloadAction, prepareAutoBatched } from "@reduxjs/toolkit";
import type { Client, Status } from "@sillage/client";
import { likesMiddleware, likesReducer } from "@sillage/client/redux";
import { useSyncExternalStore } from "react";
import { useDispatch, useSelector } from "react-redux";
import { followOutbox, outboxReducer } from "./outbox";

export type ConnectionStatus = Omit<Status, "pending">;

const BEFORE: ConnectionStatus = {
  connection: "connecting",
  transport: undefined,
  sends: false,
  storage: "ok",
};

const connection = createSlice({
  name: "connection",
  initialState: BEFORE,
  reducers: {
    changed: {
      prepare: prepareAutoBatched<ConnectionStatus>(),
      reducer: (_, { payload }: PayloadAction<ConnectionStatus>) => payload,
    },
  },
});

export function makeStore(client: Client) {
  const store = configureStore({
    reducer: { likes: likesReducer, outbox: outboxReducer, connection: connection.reducer },
    middleware: (defaults) => defaults().concat(likesMiddleware(client)),
  });
  client.onStatus(({ pending: _, ...now }) => {
    const before = store.getState().connection;
    const keys = Object.keys(now) as (keyof ConnectionStatus)[];
    if (keys.some((key) => now[key] !== before[key])) store.dispatch(connection.actions.changed(now));
  });
  followOutbox(client, store.dispatch);
  return store;
}

export type Store = ReturnType<typeof makeStore>;
export type State = ReturnType<Store["getState"]>;

export const useStudioDispatch = useDispatch.withTypes<Store["dispatch"]>();
export const useStudioSelector = useSelector.withTypes<State>();

const never = () => () => {};

/**
 * How the connection and the storage stand, for whoever is outside the parts that have a session; as they are before
 * there is any, if there is none.
 */
export function useConnection(store: Store | undefined): ConnectionStatus {
  return useSyncExternalStore(store?.subscribe ?? never, () => store?.getState().connection ?? BEFORE);
}
